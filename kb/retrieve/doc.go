// Package retrieve finds tunables and symptoms for a question in plain words, as a person asks it.
//
// It owns the documents made of catalogue and rules, the words people use for them (words.yaml), and
// four rankings: keyword (BM25 over fields), vector (nearest by meaning), graph (spread from the best of
// both along the edges) and fused (weighted reciprocal ranks). It must never read the host or a store,
// change a document it was given, or let a text from outside do more than be compared.
//
// Read [Doc] and [Index.Search] first, then fuse.go. docs/retrieval.md has what it reaches, measured.
package retrieve
