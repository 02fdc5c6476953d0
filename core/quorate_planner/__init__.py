"""Tolerance planner: where VMs restart after host failures. Pure: no clock, no I/O, no Kubernetes."""
