// Package vector finds the stored vectors nearest to a query by cosine distance.
//
// It owns the index in memory: exact answers from a scan of int8 codes whose losses are bounded, a
// graph walk where that is measured to be cheaper, and coder/hnsw behind the same door. It must
// never give an answer it did not rank by true distance, hold a vector without a direction, panic,
// or keep anything on disk: vectors live in the store and are put in again at start.
//
// A row is a unit vector with its int8 codes in an append-only slot ([rows]); a changed row takes a
// new slot. A scan scores the codes of all slots and computes the true distance of those that the
// bounds leave in the running ([picker]), so it is exact. A [walker] covers the older slots; how wide
// it has to walk is measured on the data itself ([calibrate]), and where no width reaches the recall
// for less than a scan, the scan answers.
//
// Read [Index], then Live.Search, then scan.go.
package vector
