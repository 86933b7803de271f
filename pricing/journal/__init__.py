"""Every prediction that was answered, one line each."""
