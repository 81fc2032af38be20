// Width conversion: rows of ROW values in beats of IN_LANES become beats of OUT_LANES, any ratio.
//
// A row starts a new beat on both sides; what pads the last beat of a row is dropped, and the last
// beat out is padded with zeros. Latency 1 cycle after the last value that a beat needs; interval
// max(ceil(ROW / IN_LANES), ceil(ROW / OUT_LANES)) cycles a row. in_ready_o, out_valid_o and
// out_data_o are functions of registers alone.
module quire_convert #(
  parameter int unsigned LANE_W    = 8,
  parameter int unsigned IN_LANES  = 1,
  parameter int unsigned OUT_LANES = 1,
  parameter int unsigned ROW       = 1
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

  localparam int unsigned UNIT = common_divisor(IN_LANES, OUT_LANES);
  localparam int unsigned IN_BEATS = (ROW + IN_LANES - 1) / IN_LANES;
  localparam int unsigned OUT_BEATS = (ROW + OUT_LANES - 1) / OUT_LANES;
  localparam int unsigned TAIL = ROW - (IN_BEATS - 1) * IN_LANES;
  localparam int unsigned IN_UNITS = IN_LANES / UNIT;
  localparam int unsigned OUT_UNITS = OUT_LANES / UNIT;
  // The last beat in brings what fills the last beat out, zeros included.
  localparam int unsigned LAST_UNITS = OUT_BEATS * OUT_UNITS - (IN_BEATS - 1) * IN_UNITS;
  localparam int unsigned MOST_UNITS = (IN_UNITS > LAST_UNITS) ? IN_UNITS : LAST_UNITS;
  localparam int unsigned COUNT_W = $clog2(MOST_UNITS + 1);
  localparam int unsigned BEAT_W = (IN_BEATS > 1) ? $clog2(IN_BEATS) : 1;
  localparam int unsigned IN_W = IN_LANES * LANE_W;
  localparam int unsigned PUSH_W = MOST_UNITS * UNIT * LANE_W;
  localparam logic [IN_W-1:0] TAIL_MASK = {IN_W{1'b1}} >> ((IN_LANES - TAIL) * LANE_W);

  if (LANE_W < 1 || IN_LANES < 1 || OUT_LANES < 1 || ROW < 1) begin : g_check_size
    $error("quire_convert: LANE_W, IN_LANES, OUT_LANES and ROW must be 1 or more");
  end

  logic [ BEAT_W-1:0] beat_q;
  logic [COUNT_W-1:0] count;
  logic [   IN_W-1:0] values;
  logic               last;

  assign last   = beat_q == BEAT_W'(IN_BEATS - 1);
  assign count  = last ? COUNT_W'(LAST_UNITS) : COUNT_W'(IN_UNITS);
  assign values = last ? in_data_i & TAIL_MASK : in_data_i;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) beat_q <= '0;
    else if (in_valid_i && in_ready_o) beat_q <= last ? '0 : beat_q + BEAT_W'(1);
  end

  quire_gearbox #(
    .UNIT_W   (UNIT * LANE_W),
    .IN_UNITS (MOST_UNITS),
    .OUT_UNITS(OUT_UNITS),
    .ROW_UNITS(OUT_UNITS)
  ) gearbox (
    .clk_i,
    .rst_ni,
    .in_valid_i,
    .in_ready_o,
    .in_count_i(count),
    .in_data_i (PUSH_W'(values)),
    .out_valid_o,
    .out_ready_i,
    .out_data_o
  );

endmodule
