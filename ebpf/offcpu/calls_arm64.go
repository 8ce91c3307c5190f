package offcpu

func olderCalls() map[string][]int { return nil }
