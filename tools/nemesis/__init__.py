"""Random faults against a real cluster under load, and a check of every promise afterwards."""
