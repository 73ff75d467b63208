"""The name of the file of a calibrator, for modules that look for the file without reading it."""

CALIBRATION_FILE = "calibration.json"
