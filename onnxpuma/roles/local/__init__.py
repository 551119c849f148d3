"""All three parties on this machine: in processes of their own, or in this one."""
