"""What the bake side (scripts) and the AWS side (launch) share."""

__version__ = "0.1.0"
