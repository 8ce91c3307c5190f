package retrieve

// weights are all numbers of the rankings that could as well be others. They were chosen on the tuning
// part of the questions alone, by TestChooseWeights (docs/retrieval.md says how).
type weights struct {
	Name, Title, Text, Asked float64 // of a word, by the field it stands in
	Saturation, LengthPart   float64 // BM25 k1 and b
	SameMeaning, Misspelt    float64 // of a group of one meaning, of a respelt word, against a word

	Seeds int     // best of keyword and vector from which the graph spreads
	Decay float64 // what an edge of weight 1 carries on

	Keyword, Vector, Graph float64 // of the rankings in the fused one
	Offset                 float64 // added to every rank: how little the first places stand out
	Depth                  int     // places of each ranking that count
}

func chosen() weights {
	return weights{
		Name: 3, Title: 0.6, Text: 0.3, Asked: 4.5, Saturation: 1.2, LengthPart: 0.45, SameMeaning: 1, Misspelt: 0.9,
		Seeds: 10, Decay: 0.9, Keyword: 1.2, Vector: 1.4, Graph: 1.2, Offset: 1.6, Depth: 60,
	}
}
