package redis

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"
)

// memory is a History as plain as the contract.
type memory struct {
	mu      sync.Mutex
	mark    Mark
	records map[string]Record
	down    bool
}

func newMemory() *memory { return &memory{records: map[string]Record{}} }

var errDown = errors.New("the history is down")

func (m *memory) Save(_ context.Context, mark Mark, records []Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return errDown
	}
	for _, r := range records {
		if r.Rev >= m.records[r.Task.ID].Rev {
			m.records[r.Task.ID] = r
		}
	}
	if mark.Batch >= m.mark.Batch {
		m.mark = mark
	}
	return nil
}

func (m *memory) Mark(context.Context) (Mark, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mark, nil
}

func (m *memory) Since(_ context.Context, rev int64, after string, limit int) (list []Record, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(m.records)) {
		r := m.records[id]
		if id > after && len(list) < limit && (r.Rev > rev || !r.Task.State.Terminal()) {
			list = append(list, r)
		}
	}
	return list, nil
}

func (m *memory) Sweep(_ context.Context, before time.Time, limit int) (n int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, r := range m.records {
		if n < limit && r.Task.State.Terminal() && r.Task.FinishedAt.Before(before) {
			delete(m.records, id)
			n++
		}
	}
	return n, nil
}

// set makes the history refuse to save, or take it again.
func (m *memory) set(down bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = down
}
