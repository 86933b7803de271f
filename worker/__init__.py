"""A gunicorn worker for WSGI applications, with deadlines and limits for clients.

Imports nothing else of this repository.
"""
