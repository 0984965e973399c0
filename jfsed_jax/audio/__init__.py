"""Reading a file, and its log-mel on the host and on the device."""
