package console

import (
	"github.com/labstack/echo/v4"

	"semantos/internal/tune"
)

// CalibrateRequest has no fields: what a threshold rests on is history, never what a request says.
type CalibrateRequest struct{}

// calibrate reads history now, and what it gives is in force before the answer leaves.
func (c *Console) calibrate(ctx echo.Context) error {
	var req CalibrateRequest
	if err := c.read(ctx, &req); err != nil {
		return err
	}
	found, err := c.cfg.Rollouts.Calibrate(ctx.Request().Context())
	if err != nil {
		return err
	}
	return answer(ctx, calibration(found))
}

func calibration(c tune.Calibration) tune.Calibration {
	c.Cuts = list(c.Cuts)
	return c
}
