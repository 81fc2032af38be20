// AXI4-Stream input: a beat without its byte padding, registered.
//
// Latency 1 cycle, interval 1. Both paths are registered by a quire_slice. tlast_i may be absent
// (tied to 0); a high one on any beat but the last of a sample of BEATS beats sets error_o, which
// stays set until reset. Beats pass whatever tlast_i says.
module quire_axis_in #(
  parameter int unsigned TDATA_W = 8,
  parameter int unsigned WIDTH   = 8,
  parameter int unsigned BEATS   = 1
) (
  input  logic               clk_i,
  input  logic               rst_ni,
  input  logic               tvalid_i,
  output logic               tready_o,
  input  logic [TDATA_W-1:0] tdata_i,
  input  logic               tlast_i,
  output logic               out_valid_o,
  input  logic               out_ready_i,
  output logic [WIDTH-1:0]   out_data_o,
  output logic               error_o
);

  localparam int unsigned BEAT_W = (BEATS > 1) ? $clog2(BEATS) : 1;

  if (WIDTH < 1 || TDATA_W < WIDTH) begin : g_check_width
    $error("quire_axis_in: WIDTH must lie between 1 and TDATA_W");
  end
  if (BEATS < 1) begin : g_check_beats
    $error("quire_axis_in: BEATS must be 1 or more");
  end
  if (TDATA_W > WIDTH) begin : g_padding
    logic unused_padding;
    assign unused_padding = ^tdata_i[TDATA_W-1:WIDTH];
  end

  logic [BEAT_W-1:0] beat_q;
  logic              last;

  assign last = beat_q == BEAT_W'(BEATS - 1);

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      beat_q  <= '0;
      error_o <= 1'b0;
    end else if (tvalid_i && tready_o) begin
      beat_q  <= last ? '0 : beat_q + BEAT_W'(1);
      error_o <= error_o | (tlast_i & ~last);
    end
  end

  quire_slice #(
    .WIDTH(WIDTH)
  ) slice (
    .clk_i,
    .rst_ni,
    .in_valid_i(tvalid_i),
    .in_ready_o(tready_o),
    .in_data_i (tdata_i[WIDTH-1:0]),
    .out_valid_o,
    .out_ready_i,
    .out_data_o
  );

`ifndef SYNTHESIS
  logic raised_q;

  always_ff @(posedge clk_i) begin
    raised_q <= rst_ni & (error_o | (tvalid_i & tready_o & tlast_i & ~last));
    if (rst_ni) begin
      a_beat : assert ((BEAT_W + 1)'(beat_q) / (BEAT_W + 1)'(BEATS) == '0);
      a_error : assert (error_o == raised_q);
    end
  end
`endif

endmodule
