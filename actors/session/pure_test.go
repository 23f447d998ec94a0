package session

// Decide is the machine as a pure function, as the stories and the search see
// it: r stays as it was.
func Decide(r Run, in Input) (Run, []Effect) {
	d := decision{Run: r}
	d.take(in)
	return d.Run, d.effects
}
