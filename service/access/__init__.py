"""Authentication, authorization, rate limits and the headers that browsers obey."""
