package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// StreamTask yields the messages of one run until it is terminal, ctx ends or
// the connection breaks; a stream that ended without "final" may be resumed
// with WithLastEventID and the newest Seq. That comes with messages, and in some
// of type "position", which carry nothing else. The last pair has the error, if
// there was one.
func (c *Client) StreamTask(ctx context.Context, id string, opts ...Option) iter.Seq2[EventMessage, error] {
	return c.stream(ctx, "/api/v1/tasks"+seg(id)+"/events", nil, opts)
}

// StreamEvents yields the event log after since (negative: from now on), only
// what matches the topics (none: everything). It ends as StreamTask does.
func (c *Client) StreamEvents(ctx context.Context, topics []string, since int64, opts ...Option) iter.Seq2[EventMessage, error] {
	q := query{}.set("topics", strings.Join(topics, ","))
	if since >= 0 {
		q.set("since", strconv.FormatInt(since, 10))
	}
	return c.stream(ctx, "/api/v1/events", url.Values(q), opts)
}

func (c *Client) stream(ctx context.Context, path string, q url.Values, opts []Option) iter.Seq2[EventMessage, error] {
	return func(yield func(EventMessage, error) bool) {
		resp, err := c.send(ctx, http.MethodGet, path, q, nil, opts)
		if err != nil {
			yield(EventMessage{}, err)
			return
		}
		defer resp.Body.Close() //nolint:errcheck // read only
		for e, err := range serverSentEvents(resp.Body) {
			m := EventMessage{Type: typePosition}
			if err == nil && e.data != nil {
				err = json.Unmarshal(e.data, &m)
			}
			if m.Seq == nil {
				m.Seq = e.id
			}
			if !yield(m, err) || err != nil {
				return
			}
		}
	}
}

// maxEvent bounds one server-sent event, in bytes.
const maxEvent = 8 << 20

// typePosition is a message that only moves the client's place.
const typePosition = "position"

// sent is one server-sent event: data, an id, or both.
type sent struct {
	data []byte
	id   *int64
}

func serverSentEvents(r io.Reader) iter.Seq2[sent, error] {
	return func(yield func(sent, error) bool) {
		lines := bufio.NewScanner(r)
		lines.Buffer(make([]byte, 64<<10), maxEvent)
		var e sent
		for lines.Scan() {
			line := lines.Bytes()
			switch {
			case bytes.HasPrefix(line, []byte("data:")):
				e.data = append(e.data, bytes.TrimPrefix(line[5:], []byte(" "))...)
			case bytes.HasPrefix(line, []byte("id:")):
				if n, err := strconv.ParseInt(string(bytes.TrimSpace(line[3:])), 10, 64); err == nil {
					e.id = &n
				}
			case len(line) == 0 && (e.data != nil || e.id != nil):
				if !yield(e, nil) {
					return
				}
				e = sent{}
			}
		}
		if err := lines.Err(); err != nil {
			yield(sent{}, fmt.Errorf("read stream: %w", err))
		}
	}
}

// health reads a health answer, whatever its status.
func (c *Client) health(ctx context.Context, path string) (*Health, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		return nil, fmt.Errorf("ask for health: %w", err)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("reach Dash: %w", err)
	}
	defer resp.Body.Close() //nolint:errcheck // read only
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusServiceUnavailable {
		return nil, problem(resp)
	}
	h := &Health{}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(h); err != nil || h.Status == "" {
		return nil, errors.Join(errors.New("the answer is not from Dash"), err)
	}
	return h, nil
}
