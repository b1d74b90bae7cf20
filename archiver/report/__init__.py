"""The report: one record of facts about an archive, and a page of it for people."""
