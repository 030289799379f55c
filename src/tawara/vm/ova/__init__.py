"""An instance as a virtual appliance for other hypervisors (OVA)."""
