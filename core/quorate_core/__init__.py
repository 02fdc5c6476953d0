"""Decisions of Quorate. Standard library only; no clock, no I/O, no Kubernetes."""
