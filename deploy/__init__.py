"""What is shipped besides the program: packages, units, alert rules, a dashboard."""
