package messages

import "fmt"

// Class is a priority class. A smaller Class is served strictly first.
type Class uint8

// The four classes, in order of service.
const (
	Critical Class = iota + 1
	High
	Medium
	Low
)

// Classes lists the classes in order of service.
var Classes = [...]Class{Critical, High, Medium, Low}

var classNames = [...]string{Critical: "critical", High: "high", Medium: "medium", Low: "low"}

func (c Class) String() string {
	if c < Critical || c > Low {
		return fmt.Sprintf("class(%d)", uint8(c))
	}
	return classNames[c]
}

// Valid reports whether c is one of the four classes.
func (c Class) Valid() bool { return c >= Critical && c <= Low }

// ParseClass returns the class with that name.
func ParseClass(s string) (Class, error) {
	for _, c := range Classes {
		if classNames[c] == s {
			return c, nil
		}
	}
	return 0, fmt.Errorf("unknown priority %q: use critical, high, medium or low", s)
}
