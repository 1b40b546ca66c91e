"""What do all commands share? Error messages, exit codes, settings, provenance, signals."""
