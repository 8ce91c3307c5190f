// Package knowledge joins what the catalogue seeds, what a store holds and what outcomes taught into one
// living graph and memory.
//
// It owns three things: bringing the seed into the store without touching what was learned, learning
// from an outcome once, and answering from the newest graph. It must never lose an outcome because an
// index failed, count one outcome twice, or answer with nothing because the store is away: the last
// known graph stands. Read [Open], then [Knowledge.Learn].
package knowledge
