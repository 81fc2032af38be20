// Environment of the proof of quire_convert: a reset first, and again at any time. What spans the
// cell and its gearbox is stated here: each value of a row leaves once, in its own beat and lane of
// the row, and the rest of the last beat is zero.
module formal_convert #(
  parameter int unsigned LANE_W    = 2,
  parameter int unsigned IN_LANES  = 2,
  parameter int unsigned OUT_LANES = 3,
  parameter int unsigned ROW       = 7
) (
  input logic                       clk_i,
  input logic                       rst_ni,
  input logic                       in_valid_i,
  input logic [IN_LANES*LANE_W-1:0] in_data_i,
  input logic                       out_ready_i
);

  localparam int unsigned IN_BEATS = (ROW + IN_LANES - 1) / IN_LANES;
  localparam int unsigned OUT_BEATS = (ROW + OUT_LANES - 1) / OUT_LANES;
  localparam int unsigned PADDED = OUT_BEATS * OUT_LANES;  // lanes of a row at the output

  // Of the gearbox: the lanes in its buffer, and the lanes that are filled. See the proof's script.
  parameter int unsigned CAPACITY = 1;
  parameter int unsigned UNIT = 1;
  localparam int unsigned FILL_W = $clog2(CAPACITY + 1);
  localparam int unsigned BEAT_W = (IN_BEATS > 1) ? $clog2(IN_BEATS) : 1;
  (* hierconn *) wire [CAPACITY*UNIT*LANE_W-1:0] \dut.gearbox.data_q ;
  (* hierconn *) wire [FILL_W-1:0] \dut.gearbox.fill_q ;
  (* hierconn *) wire [BEAT_W-1:0] \dut.beat_q ;
  wire [7:0] filled = 8'(\dut.gearbox.fill_q ) * 8'(UNIT);

  logic in_ready, out_valid, push, pop;
  logic [OUT_LANES*LANE_W-1:0] out_data;
  assign push = in_valid_i & in_ready;
  assign pop  = out_valid & out_ready_i;

  // One value is watched: its place in the row, the lanes that leave before it, and what it was.
  (* anyseq *) logic choose;
  (* anyseq *) logic [7:0] lane;
  logic started = 1'b0;
  logic watching_q;
  logic [7:0] place_q, ahead_q, sent_q;  // sent_q: lanes of the row that have left
  logic [LANE_W-1:0] watched_q;

  always_comb assume (started || !rst_ni);

  always_ff @(posedge clk_i) begin
    started <= 1'b1;
    if (pop) sent_q <= (sent_q + 8'(OUT_LANES)) % 8'(PADDED);
    if (!watching_q) begin
      place_q    <= 8'(\dut.beat_q ) * 8'(IN_LANES) + lane;
      watching_q <= push && choose && lane < 8'(IN_LANES)
                    && 8'(\dut.beat_q ) * 8'(IN_LANES) + lane < 8'(ROW);
      ahead_q    <= filled - (pop ? 8'(OUT_LANES) : '0) + lane;
      watched_q  <= LANE_W'(in_data_i >> (lane * LANE_W));
    end else if (pop) begin
      watching_q <= ahead_q >= 8'(OUT_LANES);
      ahead_q    <= ahead_q - 8'(OUT_LANES);
    end
    if (!rst_ni) begin
      watching_q <= 1'b0;
      sent_q     <= '0;
    end
  end

  always_ff @(posedge clk_i) begin
    if (rst_ni) begin
      a_in_beat : assert (32'(\dut.beat_q ) < IN_BEATS);
      a_sent : assert (sent_q < 8'(PADDED) && sent_q % 8'(OUT_LANES) == '0);
      a_rows : assert ((sent_q + filled) % 8'(PADDED)
                       == (8'(\dut.beat_q ) * 8'(IN_LANES)) % 8'(PADDED));
      if (watching_q) begin
        a_inside : assert (ahead_q < filled);
        a_place : assert ((sent_q + ahead_q) % 8'(PADDED) == place_q && place_q < 8'(ROW));
        a_value : assert (LANE_W'(\dut.gearbox.data_q >> (ahead_q * LANE_W)) == watched_q);
        a_leaves : assert (!pop || ahead_q >= 8'(OUT_LANES)
                           || LANE_W'(out_data >> (ahead_q * LANE_W)) == watched_q);
      end
    end
  end

  // Lanes of the buffer that pad a row and hold something.
  logic [CAPACITY*UNIT-1:0] spoiled;
  always_comb begin
    for (int unsigned i = 0; i < CAPACITY * UNIT; i++) begin
      spoiled[i] = (sent_q + 8'(i)) % 8'(PADDED) >= 8'(ROW)
                   && \dut.gearbox.data_q [i*LANE_W+:LANE_W] != '0;
    end
  end
  always_ff @(posedge clk_i) if (rst_ni) a_padding : assert (spoiled == '0);

  quire_convert #(
    .LANE_W   (LANE_W),
    .IN_LANES (IN_LANES),
    .OUT_LANES(OUT_LANES),
    .ROW      (ROW)
  ) dut (
    .clk_i,
    .rst_ni,
    .in_valid_i,
    .in_ready_o (in_ready),
    .in_data_i,
    .out_valid_o(out_valid),
    .out_ready_i,
    .out_data_o (out_data)
  );

endmodule
