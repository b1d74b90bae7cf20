"""How a catalogue file of an older version becomes one of this version; alembic runs these."""
