"""How this instance and its service to clients are, for load balancer, Auto Scaling and CloudWatch."""
