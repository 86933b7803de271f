"""From sales to a judged, calibrated and certified version. Needs scikit-learn; the service never imports this."""

import os

# Read by OpenMP when scikit-learn is imported. Otherwise its threads spin while they wait: on two cores that another
# program used too, a training took 79 s instead of 21 s.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
