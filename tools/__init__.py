"""The corfu command: development cluster, data, inspection, simulator."""
