package sqlite

import (
	"database/sql/driver"
	"strings"
)

// The driver gives int64, string, []byte or nil. Columns are STRICT, so any
// other type is NULL, which reads as the zero value.

func integer(v driver.Value) int64 {
	n, _ := v.(int64)
	return n
}

func text(v driver.Value) string {
	s, _ := v.(string)
	return s
}

func blob(v driver.Value) []byte {
	b, _ := v.([]byte)
	return b
}

// query runs a statement that is not kept prepared.
func (c *conn) query(q string, read rowReader, args ...driver.Value) error {
	rows, err := c.dc.(driver.QueryerContext).QueryContext(noCancel, q, named(args))
	if err != nil {
		return err
	}
	return each(rows, read)
}

// text executes a statement that is not kept prepared.
func (c *conn) text(q string, args ...driver.Value) error {
	_, err := c.exec(q, args...)
	return err
}

func (c *conn) exec(q string, args ...driver.Value) (changed int64, err error) {
	res, err := c.dc.(driver.ExecerContext).ExecContext(noCancel, q, named(args))
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

func named(args []driver.Value) []driver.NamedValue {
	out := make([]driver.NamedValue, len(args))
	for i, v := range args {
		out[i] = driver.NamedValue{Ordinal: i + 1, Value: v}
	}
	return out
}

func isNoTransaction(err error) bool {
	return strings.Contains(err.Error(), "no transaction is active")
}
