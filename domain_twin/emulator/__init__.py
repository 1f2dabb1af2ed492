"""The emulated network: packets, devices and their management protocols. Stands for the physical network."""
