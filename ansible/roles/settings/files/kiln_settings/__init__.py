"""Settings from user data: a document is judged, then becomes files of the units, all of them or none."""
