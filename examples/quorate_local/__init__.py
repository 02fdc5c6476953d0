"""A real control plane and KubeVirt on one machine, for the demo and the tests; never imported by the product."""
