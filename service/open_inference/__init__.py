"""Predictions in the Open Inference Protocol (V2), over the same code as `/predict/batch`."""
