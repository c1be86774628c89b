"""On-chip learning: three-factor rules, their integer engine, and the programs that keep learning on the chip."""
