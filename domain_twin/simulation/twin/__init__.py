"""From the network model and its measurements to a simulation graph, its demand and its calibration."""
