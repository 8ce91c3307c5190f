// Package learn turns outcomes into evidence: how an observation moves an edge, when evidence retires
// one, and which interactions a pairwise sweep proves.
//
// It owns the arithmetic alone: it is pure, and the caller keeps edges and history. It must never move
// an edge by an outcome that measured nothing, decay a documented edge, or take noise for an
// interaction more often than its level says. Read [Observe], then [Induce].
package learn
