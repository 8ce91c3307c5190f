// Package embed turns text into unit vectors: with the static table inside the binary (no network, no
// model to run), or through Ollama or OpenAI when one is configured.
//
// It owns tokenising, pooling and the checks of what a service answers. It must never give a vector
// with NaN, of another length than it said, or of no direction; never keep or print an API key; never
// wait without a limit. It knows nothing of tunables: what is embedded and compared is the business of
// kb/retrieve and the stores.
//
// Read [Embedder] first, then static.go; scripts/distill makes static.bin.
package embed
