package ratelimit

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

func register(r prometheus.Registerer, all ...prometheus.Collector) error {
	if r == nil {
		return nil
	}
	for _, c := range all {
		if err := r.Register(c); err != nil {
			return fmt.Errorf("register metrics of rate limits: %w", err)
		}
	}
	return nil
}
