"""Ownership of workflows: leases, takeover and the supervisor."""
