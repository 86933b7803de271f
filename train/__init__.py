"""From sales to a judged, calibrated and certified version. Needs scikit-learn; the service never imports this."""
