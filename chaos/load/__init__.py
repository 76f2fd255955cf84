"""What the processes do during the faults: run workflows that talk with each other, and talk with them from outside."""
