"""The Windows tasks against a host that stands in for Windows: what of them can be known without one."""
