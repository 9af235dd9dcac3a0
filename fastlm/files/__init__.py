"""Files and folders: made whole, sealed, compressed, and the paths a user gives."""
