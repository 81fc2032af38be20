// Copyright the Quire authors. The RTL that Quire emits belongs to whoever emits it.
//
// Finds the shared power-of-two scale of each block of exact integers, and brings them to it.
//
// A block is BLOCK_BEATS beats of a row of ROW_BEATS beats; the last one of a row may be short,
// and its last beat has LAST_LANES values. The code of a block's scale is
//   clamp(floor(log2 max |x|) + CODE_PLUS - CODE_MINUS, 0, CODE_MAX), and 0 for a block of zeros.
// A beat leaves as {code, values}, each value shifted left by CODE_HIGH - code, where CODE_HIGH
// is the largest code that IN_W bits can reach, so that all codes share one grid.
//
// Interval: one beat a cycle. Latency: the beats of a block and 3 cycles. Three blocks are held:
// one is written, one waits two cycles for its code, one is read.
// Registered: the outputs and `in_ready_o`.
module quire_block_scale #(
  parameter int unsigned LANES       = 2,
  parameter int unsigned IN_W        = 8,
  parameter int unsigned BLOCK_BEATS = 2,
  parameter int unsigned ROW_BEATS   = 3,
  parameter int unsigned LAST_LANES  = 2,
  parameter int unsigned CODE_W      = 8,
  parameter int unsigned CODE_PLUS   = 100,
  parameter int unsigned CODE_MINUS  = 0,
  parameter int unsigned CODE_MAX    = 254,
  parameter int unsigned CODE_HIGH   = 107,
  parameter int unsigned OUT_W       = 8
) (
  input  logic clk_i,
  input  logic rst_ni,

  input  logic                     in_valid_i,
  output logic                     in_ready_o,
  input  logic [LANES*IN_W-1:0]    in_data_i,

  output logic                     out_valid_o,
  input  logic                     out_ready_i,
  output logic [CODE_W+LANES*OUT_W-1:0] out_data_o
);
  localparam int unsigned BLOCK_CW = (BLOCK_BEATS > 1) ? $clog2(BLOCK_BEATS) : 1;
  localparam int unsigned ROW_CW   = (ROW_BEATS > 1) ? $clog2(ROW_BEATS) : 1;
  localparam int unsigned BANKS    = 3;
  localparam int unsigned BANK_W   = 2;
  localparam int unsigned STORE_AW = $clog2(BANKS * BLOCK_BEATS);

  if (IN_W < 2) begin : gen_check_width
    $error("quire_block_scale: IN_W is at least 2");
  end
  if (LAST_LANES == 0 || LAST_LANES > LANES) begin : gen_check_last_lanes
    $error("quire_block_scale: LAST_LANES is 1 to LANES");
  end
  if (CODE_HIGH > CODE_MAX || CODE_MAX >= (1 << CODE_W)) begin : gen_check_codes
    $error("quire_block_scale: CODE_HIGH <= CODE_MAX < 2^CODE_W");
  end

  // ------------------------------------------------------------- a block is stored and measured
  logic [LANES*IN_W-1:0] store_q [BANKS*BLOCK_BEATS];
  logic [BLOCK_CW-1:0]   write_q, read_q;
  logic [ROW_CW-1:0]     row_q;
  logic [BANK_W-1:0]     write_bank_q, read_bank_q;
  logic [BANKS-1:0]      held_q, full_q;  // held: no room; full: its code is known
  logic [IN_W-1:0]       bits_q;          // the OR of all magnitudes of the block
  logic                  measured_q;
  logic [BANK_W-1:0]     measured_bank_q;
  logic [CODE_W-1:0]     code_q [BANKS];
  logic [BLOCK_CW-1:0]   end_q  [BANKS];  // the last beat of each block
  logic accept, row_last, block_last;

  assign in_ready_o = !held_q[write_bank_q];
  assign accept     = in_valid_i && in_ready_o;
  assign row_last   = row_q == ROW_CW'(ROW_BEATS - 1);
  assign block_last = row_last || write_q == BLOCK_CW'(BLOCK_BEATS - 1);

  logic [IN_W-1:0] bits;
  always_comb begin
    bits = '0;
    for (int unsigned i = 0; i < LANES; i++) begin
      if (!(row_last && i >= LAST_LANES)) begin
        bits = bits | (in_data_i[i*IN_W+IN_W-1] ? -in_data_i[i*IN_W +: IN_W]
                                                : in_data_i[i*IN_W +: IN_W]);
      end
    end
  end

  // floor(log2) is the place of the leading one, which the OR of the magnitudes keeps.
  function automatic logic [CODE_W-1:0] code_at(input int place);
    int biased;
    biased = place + int'(CODE_PLUS) - int'(CODE_MINUS);
    if (biased < 0) biased = 0;
    if (biased > int'(CODE_MAX)) biased = int'(CODE_MAX);
    code_at = CODE_W'(biased);
  endfunction

  logic [CODE_W-1:0] code;
  always_comb begin
    code = '0;
    for (int i = 0; i < int'(IN_W); i++) if (bits_q[i]) code = code_at(i);
  end

  function automatic logic [STORE_AW-1:0] address(
    input logic [BANK_W-1:0] bank, input logic [BLOCK_CW-1:0] beat
  );
    address = STORE_AW'(bank) * STORE_AW'(BLOCK_BEATS) + STORE_AW'(beat);
  endfunction

  function automatic logic [BANK_W-1:0] next_bank(input logic [BANK_W-1:0] bank);
    next_bank = (bank == BANK_W'(BANKS - 1)) ? '0 : bank + 1'b1;
  endfunction

  always_ff @(posedge clk_i) begin
    if (accept) begin
      store_q[address(write_bank_q, write_q)] <= in_data_i;
      bits_q <= ((write_q == '0) ? '0 : bits_q) | bits;
      if (block_last) begin
        end_q[write_bank_q] <= write_q;
        measured_bank_q     <= write_bank_q;
      end
    end
    if (measured_q) code_q[measured_bank_q] <= code;
  end

  // ------------------------------------------------------------------------ and read, code known
  logic en, read, read_last;
  assign en        = out_ready_i || !out_valid_o;
  assign read      = full_q[read_bank_q];
  assign read_last = read_q == end_q[read_bank_q];

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      write_q      <= '0;
      row_q        <= '0;
      read_q       <= '0;
      write_bank_q <= '0;
      read_bank_q  <= '0;
      held_q       <= '0;
      full_q       <= '0;
      measured_q   <= 1'b0;
    end else begin
      measured_q <= accept && block_last;
      if (measured_q) full_q[measured_bank_q] <= 1'b1;
      if (accept) begin
        row_q   <= row_last ? '0 : row_q + 1'b1;
        write_q <= block_last ? '0 : write_q + 1'b1;
        if (block_last) begin
          held_q[write_bank_q] <= 1'b1;
          write_bank_q         <= next_bank(write_bank_q);
        end
      end
      if (en && read) begin
        read_q <= read_last ? '0 : read_q + 1'b1;
        if (read_last) begin
          held_q[read_bank_q] <= 1'b0;
          full_q[read_bank_q] <= 1'b0;
          read_bank_q         <= next_bank(read_bank_q);
        end
      end
    end
  end

  logic [CODE_W-1:0]      read_code, up;
  logic [LANES*IN_W-1:0]  read_beat;
  logic [LANES*OUT_W-1:0] shifted;
  assign read_code = code_q[read_bank_q];
  assign read_beat = store_q[address(read_bank_q, read_q)];
  assign up        = CODE_W'(CODE_HIGH) - read_code;
  for (genvar i = 0; i < LANES; i++) begin : gen_shift
    logic signed [IN_W-1:0] x;
    assign x = read_beat[i*IN_W +: IN_W];
    assign shifted[i*OUT_W +: OUT_W] = OUT_W'(x) << up;
  end

  logic out_valid_q;
  logic [CODE_W+LANES*OUT_W-1:0] out_q;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) out_valid_q <= 1'b0;
    else if (en) out_valid_q <= read;
    if (en) out_q <= {read_code, shifted};
  end
  assign out_valid_o = out_valid_q;
  assign out_data_o  = out_q;
endmodule
