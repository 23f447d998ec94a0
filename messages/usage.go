package messages

// Used is what the attempt cost, nil if nobody knows. Rows of releases that
// knew no cache have two plain counts, which were zero when unknown.
func (r *TaskResult) Used() *Usage {
	if u := r.GetUsage(); u != nil {
		return u
	}
	if r.GetInputTokens() == 0 && r.GetOutputTokens() == 0 {
		return nil
	}
	return &Usage{Input: r.GetInputTokens(), Output: r.GetOutputTokens()}
}
