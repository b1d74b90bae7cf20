"""Papers of what an archive holds, in the words of others: made from digests that are held already."""
