"""A spiking program as Lava processes, in integer arithmetic. Needs only numpy and lava-nc 0.10.0."""
