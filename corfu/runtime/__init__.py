"""The only I/O of the package: sockets, disks, clocks and the driver of the cores."""
