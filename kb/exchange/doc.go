// Package exchange moves everything a store of kb holds to another store or machine, as JSON Lines.
//
// It owns the format: a header line with the version, one line for each thing, sorted, and a last line
// with their number, so that a file that was cut is noticed. The same content gives the same bytes,
// whichever store it comes from. It must never guess: a line that is not understood refuses the file,
// and nothing of it is stored. Read [Export], then [Import].
package exchange
