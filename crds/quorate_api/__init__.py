"""Quorate's API: pydantic models of group `quorate.dev`, and the CRD YAML generated from them."""
