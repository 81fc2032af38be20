// Row conversion: rows of IN_ROW values become rows of OUT_ROW values, in the same order.
//
// Serves a reshape whose last axis changes, such as (T, K) to (T*K) or back; beats have IN_LANES
// and OUT_LANES values. A row starts a new beat on both sides; what pads the last beat of a row is
// dropped, and the last beat out is padded with zeros. Latency 1 cycle after the last value that a
// beat needs; a beat in and a beat out a cycle where the counts of values allow it. in_ready_o,
// out_valid_o and out_data_o are functions of registers alone.
module quire_repack #(
  parameter int unsigned LANE_W    = 8,
  parameter int unsigned IN_LANES  = 1,
  parameter int unsigned OUT_LANES = 1,
  parameter int unsigned IN_ROW    = 1,
  parameter int unsigned OUT_ROW   = 1
) (
  input  logic                        clk_i,
  input  logic                        rst_ni,
  input  logic                        in_valid_i,
  output logic                        in_ready_o,
  input  logic [ IN_LANES*LANE_W-1:0] in_data_i,
  output logic                        out_valid_o,
  input  logic                        out_ready_i,
  output logic [OUT_LANES*LANE_W-1:0] out_data_o
);

  function automatic int unsigned common_divisor(input int unsigned a, input int unsigned b);
    common_divisor = 1;
    for (int unsigned i = 2; i <= a; i++) begin
      if (a % i == 0 && b % i == 0) common_divisor = i;
    end
  endfunction

  // Values move in units that divide every beat, short ones included.
  localparam int unsigned IN_UNIT = common_divisor(IN_LANES, IN_ROW);
  localparam int unsigned OUT_UNIT = common_divisor(OUT_LANES, OUT_ROW);
  localparam int unsigned UNIT = common_divisor(IN_UNIT, OUT_UNIT);
  localparam int unsigned IN_BEATS = (IN_ROW + IN_LANES - 1) / IN_LANES;
  localparam int unsigned TAIL = IN_ROW - (IN_BEATS - 1) * IN_LANES;
  localparam int unsigned IN_UNITS = IN_LANES / UNIT;
  localparam int unsigned COUNT_W = $clog2(IN_UNITS + 1);
  localparam int unsigned BEAT_W = (IN_BEATS > 1) ? $clog2(IN_BEATS) : 1;
  localparam int unsigned IN_W = IN_LANES * LANE_W;
  localparam logic [IN_W-1:0] TAIL_MASK = {IN_W{1'b1}} >> ((IN_LANES - TAIL) * LANE_W);

  if (LANE_W < 1 || IN_LANES < 1 || OUT_LANES < 1) begin : g_check_size
    $error("quire_repack: LANE_W, IN_LANES and OUT_LANES must be 1 or more");
  end
  if (IN_ROW < 1 || OUT_ROW < 1) begin : g_check_row
    $error("quire_repack: IN_ROW and OUT_ROW must be 1 or more");
  end

  logic [BEAT_W-1:0] beat_q;
  logic              last;

  assign last = beat_q == BEAT_W'(IN_BEATS - 1);

  always_ff @(posedge clk_i) begin
    if (!rst_ni) beat_q <= '0;
    else if (in_valid_i && in_ready_o) beat_q <= last ? '0 : beat_q + BEAT_W'(1);
  end

  quire_gearbox #(
    .UNIT_W   (UNIT * LANE_W),
    .IN_UNITS (IN_UNITS),
    .OUT_UNITS(OUT_LANES / UNIT),
    .ROW_UNITS(OUT_ROW / UNIT)
  ) gearbox (
    .clk_i,
    .rst_ni,
    .in_valid_i,
    .in_ready_o,
    .in_count_i(last ? COUNT_W'(TAIL / UNIT) : COUNT_W'(IN_UNITS)),
    .in_data_i (last ? in_data_i & TAIL_MASK : in_data_i),
    .out_valid_o,
    .out_ready_i,
    .out_data_o
  );

endmodule
