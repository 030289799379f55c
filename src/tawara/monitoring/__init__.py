"""What operators and their tools see of a running component: health, readiness and metrics."""
