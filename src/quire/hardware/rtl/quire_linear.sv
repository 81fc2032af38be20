// Copyright the Quire authors. The RTL that Quire emits belongs to whoever emits it.
//
// Exact dot products of rows with a weight matrix: M_OUT sums at a time, M_IN products each.
//
// A row of K_BEATS beats makes GROUPS beats of M_OUT sums, one each step of K_BEATS * GROUPS.
//   INPUT_MAJOR = 1: each beat of the row meets all groups in turn; GROUPS sums are kept, and the
//     results leave in the last GROUPS cycles of the row.
//   INPUT_MAJOR = 0: each group meets all beats of the row, which is kept twice; a result leaves
//     every K_BEATS cycles.
// Operands are decoded: value = sig * 2^(shift + scale), `scale` once a beat. Everything else
// (weights, the scales of their blocks, biases) is read from ROMs beside the cell, which answer
// ROM_LATENCY enabled clock edges after their address.
//
// Interval: K_BEATS * GROUPS cycles a row. Latency from the last operand to its result:
// ROM_LATENCY + 2 + HAS_SHIFT + ceil(log2(M_IN) / 2) + HAS_SCALE cycles.
// Registered: the outputs. `in_ready_o` depends on `out_ready_i`.
module quire_linear #(
  parameter int unsigned K_BEATS       = 2,
  parameter int unsigned K_LAST        = 2,   // lanes in use in the last beat of a row
  parameter int unsigned GROUPS        = 2,
  parameter int unsigned M_IN          = 2,
  parameter int unsigned M_OUT         = 1,
  parameter bit          INPUT_MAJOR   = 1'b1,
  parameter int unsigned ROM_LATENCY   = 2,
  parameter int unsigned X_SIG_W       = 8,
  parameter int unsigned X_SHIFT_W     = 1,
  parameter int unsigned X_SCALE_W     = 1,
  parameter int unsigned W_SIG_W       = 8,
  parameter int unsigned W_SHIFT_W     = 1,
  parameter bit          HAS_SHIFT     = 1'b0,
  parameter int unsigned ALIGNED_W     = 16,  // a product after its shift
  parameter bit          HAS_SCALE     = 1'b0,
  parameter int unsigned SCALE_SIG_W   = 2,   // two's complement
  parameter int unsigned SCALE_SHIFT_W = 1,
  parameter int unsigned BLOCK_BEATS   = 1,   // beats of a row that share the weights' scales
  parameter int unsigned ACC_W         = 20,
  localparam int unsigned STEPS        = K_BEATS * GROUPS,
  localparam int unsigned SCALES       = ((K_BEATS + BLOCK_BEATS - 1) / BLOCK_BEATS) * GROUPS,
  localparam int unsigned WEIGHT_AW    = (STEPS > 1) ? $clog2(STEPS) : 1,
  localparam int unsigned SCALE_AW     = (SCALES > 1) ? $clog2(SCALES) : 1,
  localparam int unsigned GROUP_W      = (GROUPS > 1) ? $clog2(GROUPS) : 1
) (
  input  logic clk_i,
  input  logic rst_ni,

  input  logic                           in_valid_i,
  output logic                           in_ready_o,
  input  logic [M_IN*X_SIG_W-1:0]        in_sig_i,
  input  logic [M_IN*X_SHIFT_W-1:0]      in_shift_i,
  input  logic [X_SCALE_W-1:0]           in_scale_i,

  output logic                           rom_en_o,
  output logic [WEIGHT_AW-1:0]           weight_addr_o,
  input  logic [M_OUT*M_IN*W_SIG_W-1:0]  weight_sig_i,
  input  logic [M_OUT*M_IN*W_SHIFT_W-1:0] weight_shift_i,
  output logic [SCALE_AW-1:0]            scale_addr_o,
  input  logic [M_OUT*SCALE_SIG_W-1:0]   scale_sig_i,
  input  logic [M_OUT*SCALE_SHIFT_W-1:0] scale_shift_i,
  output logic [GROUP_W-1:0]             bias_addr_o,
  input  logic [M_OUT*ACC_W-1:0]         bias_i,

  output logic                           out_valid_o,
  input  logic                           out_ready_i,
  output logic [M_OUT*ACC_W-1:0]         out_data_o
);
  localparam int unsigned SHIFTS_W = M_IN * X_SHIFT_W;
  localparam int unsigned SIGS_W   = M_IN * X_SIG_W;
  localparam int unsigned BEAT_W   = X_SCALE_W + SHIFTS_W + SIGS_W;
  localparam int unsigned PRODUCT_W = X_SIG_W + W_SIG_W;
  localparam int unsigned SHIFT_W  = ((X_SHIFT_W > W_SHIFT_W) ? X_SHIFT_W : W_SHIFT_W) + 1;
  localparam int unsigned LEVELS   = (M_IN > 1) ? $clog2(M_IN) : 0;
  localparam int unsigned TREE_W   = ALIGNED_W + LEVELS;
  localparam int unsigned TREE_REGISTERS = (LEVELS + 1) / 2;
  localparam int unsigned TOTAL_SHIFT_W =
      ((X_SCALE_W > SCALE_SHIFT_W) ? X_SCALE_W : SCALE_SHIFT_W) + 1;
  // Stage numbers: a value of stage s is valid s enabled edges after its step was issued.
  localparam int unsigned AT_OPERANDS = ROM_LATENCY;
  localparam int unsigned AT_PRODUCT  = AT_OPERANDS + 1;
  localparam int unsigned AT_ALIGNED  = AT_PRODUCT + (HAS_SHIFT ? 1 : 0);
  localparam int unsigned AT_SUM      = AT_ALIGNED + TREE_REGISTERS;
  localparam int unsigned AT_SCALED   = AT_SUM + (HAS_SCALE ? 1 : 0);
  localparam int unsigned HELD        = INPUT_MAJOR ? GROUPS : 1;
  localparam int unsigned BEAT_CW     = (K_BEATS > 1) ? $clog2(K_BEATS) : 1;
  localparam int unsigned BLOCK_CW    = (BLOCK_BEATS > 1) ? $clog2(BLOCK_BEATS) : 1;

  if (K_BEATS == 0 || GROUPS == 0 || M_IN == 0 || M_OUT == 0) begin : gen_check_sizes
    $error("quire_linear: K_BEATS, GROUPS, M_IN and M_OUT are at least 1");
  end
  if (K_LAST == 0 || K_LAST > M_IN) begin : gen_check_last_lanes
    $error("quire_linear: K_LAST is 1 to M_IN");
  end
  if (ALIGNED_W < PRODUCT_W) begin : gen_check_aligned_width
    $error("quire_linear: ALIGNED_W is at least X_SIG_W + W_SIG_W");
  end
  if (ROM_LATENCY != 0 && ROM_LATENCY != 2) begin : gen_check_rom_latency
    $error("quire_linear: ROM_LATENCY is 0 or 2");
  end
  if (ROM_LATENCY == 0 && STEPS != 1) begin : gen_check_constant_weights
    $error("quire_linear: ROM_LATENCY is 0 for one step only");
  end

  // -------------------------------------------------------------------------------- the schedule
  logic en, issue;
  logic beat_last, group_last, block_last;
  logic [BEAT_CW-1:0]   beat_q;
  logic [GROUP_W-1:0]   group_q;
  logic [BLOCK_CW-1:0]  in_block_q;
  logic [WEIGHT_AW-1:0] weight_q;
  logic [SCALE_AW-1:0]  scale_q;

  assign en         = out_ready_i || !out_valid_o;
  assign rom_en_o   = en;
  assign beat_last  = beat_q == BEAT_CW'(K_BEATS - 1);
  assign group_last = group_q == GROUP_W'(GROUPS - 1);
  assign block_last = in_block_q == BLOCK_CW'(BLOCK_BEATS - 1);

  logic next_beat, next_group;
  assign next_beat  = INPUT_MAJOR ? group_last : 1'b1;
  assign next_group = INPUT_MAJOR ? 1'b1 : beat_last;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      beat_q     <= '0;
      group_q    <= '0;
      in_block_q <= '0;
      weight_q   <= '0;
    end else if (en && issue) begin
      weight_q <= (beat_last && group_last) ? '0 : weight_q + 1'b1;
      if (next_group) group_q <= group_last ? '0 : group_q + 1'b1;
      if (next_beat) begin
        beat_q     <= beat_last ? '0 : beat_q + 1'b1;
        in_block_q <= (beat_last || block_last) ? '0 : in_block_q + 1'b1;
      end
    end
  end

  // Scales lie in the order of the schedule: by group and block, or by block and group.
  if (INPUT_MAJOR) begin : gen_scale_input_major
    logic [SCALE_AW-1:0] base_q;
    assign scale_q = base_q + SCALE_AW'(group_q);
    always_ff @(posedge clk_i) begin
      if (!rst_ni) base_q <= '0;
      else if (en && issue && group_last) begin
        if (beat_last) base_q <= '0;
        else if (block_last) base_q <= base_q + SCALE_AW'(GROUPS);
      end
    end
  end else begin : gen_scale_output_major
    logic [SCALE_AW-1:0] count_q;
    assign scale_q = count_q;
    always_ff @(posedge clk_i) begin
      if (!rst_ni) count_q <= '0;
      else if (en && issue) begin
        if (beat_last && group_last) count_q <= '0;
        else if (beat_last || block_last) count_q <= count_q + 1'b1;
      end
    end
  end

  // ------------------------------------------------------------------- the row, padding set to 0
  logic [BEAT_W-1:0] in_beat, operand_beat;
  logic in_last;
  logic [SIGS_W-1:0] masked_sig;
  for (genvar i = 0; i < M_IN; i++) begin : gen_mask
    assign masked_sig[i*X_SIG_W +: X_SIG_W] =
        (i >= K_LAST && in_last) ? '0 : in_sig_i[i*X_SIG_W +: X_SIG_W];
  end
  assign in_beat = {in_scale_i, in_shift_i, masked_sig};

  if (INPUT_MAJOR) begin : gen_input_major
    assign in_last    = beat_last;
    assign issue      = in_valid_i;
    assign in_ready_o = en && group_last;
    if (ROM_LATENCY == 0) begin : gen_direct
      assign operand_beat = in_beat;
    end else begin : gen_delayed
      logic [BEAT_W-1:0] first_q, second_q;
      always_ff @(posedge clk_i) if (en) begin
        first_q  <= in_beat;
        second_q <= first_q;
      end
      assign operand_beat = second_q;
    end
  end else begin : gen_output_major
    localparam int unsigned ROW_AW = $clog2(2 * K_BEATS);
    logic [BEAT_W-1:0]  row_q [2*K_BEATS];
    logic [BEAT_W-1:0]  first_q, second_q;
    logic [BEAT_CW-1:0] write_q;
    logic               write_bank_q, read_bank_q, row_done;
    logic [1:0]         full_q;

    assign in_last    = write_q == BEAT_CW'(K_BEATS - 1);
    assign in_ready_o = !full_q[write_bank_q];
    assign issue      = full_q[read_bank_q];
    assign row_done   = en && issue && beat_last && group_last;

    always_ff @(posedge clk_i) begin
      if (in_valid_i && in_ready_o)
        row_q[(write_bank_q ? ROW_AW'(K_BEATS) : '0) + ROW_AW'(write_q)] <= in_beat;
      if (en) begin
        first_q  <= row_q[(read_bank_q ? ROW_AW'(K_BEATS) : '0) + ROW_AW'(beat_q)];
        second_q <= first_q;
      end
    end
    assign operand_beat = second_q;

    always_ff @(posedge clk_i) begin
      if (!rst_ni) begin
        write_q      <= '0;
        write_bank_q <= 1'b0;
        read_bank_q  <= 1'b0;
        full_q       <= 2'b00;
      end else begin
        if (in_valid_i && in_ready_o) begin
          write_q <= in_last ? '0 : write_q + 1'b1;
          if (in_last) begin
            write_bank_q         <= !write_bank_q;
            full_q[write_bank_q] <= 1'b1;
          end
        end
        if (row_done) begin
          read_bank_q         <= !read_bank_q;
          full_q[read_bank_q] <= 1'b0;
        end
      end
    end
  end

  // --------------------------------------------------- what follows a step through the pipeline
  logic [AT_SCALED:0]   valid, first, last;
  logic [GROUP_W-1:0]   group_at [AT_SCALED+1];
  assign valid[0]    = issue;
  assign first[0]    = beat_q == '0;
  assign last[0]     = beat_last;
  assign group_at[0] = group_q;
  for (genvar s = 1; s <= AT_SCALED; s++) begin : gen_follow
    logic valid_q, first_q, last_q;
    logic [GROUP_W-1:0] group_sq;
    always_ff @(posedge clk_i) begin
      if (!rst_ni) valid_q <= 1'b0;
      else if (en) valid_q <= valid[s-1];
      if (en) begin
        first_q  <= first[s-1];
        last_q   <= last[s-1];
        group_sq <= group_at[s-1];
      end
    end
    assign valid[s]    = valid_q;
    assign first[s]    = first_q;
    assign last[s]     = last_q;
    assign group_at[s] = group_sq;
  end

  assign weight_addr_o = weight_q;
  assign bias_addr_o   = group_at[AT_SCALED-ROM_LATENCY];

  logic [SIGS_W-1:0]    sig;
  logic [SHIFTS_W-1:0]  shift;
  logic [X_SCALE_W-1:0] scale;
  assign {scale, shift, sig} = operand_beat;

  // ------------------------------------------------------------------------- products, and sums
  logic [M_OUT*ACC_W-1:0] scaled;
  for (genvar o = 0; o < M_OUT; o++) begin : gen_out
    logic [M_IN*ALIGNED_W-1:0] aligned;
    for (genvar i = 0; i < M_IN; i++) begin : gen_in
      logic signed [X_SIG_W-1:0] x;
      logic signed [W_SIG_W-1:0] w;
      logic signed [PRODUCT_W-1:0] product_q;
      assign x = sig[i*X_SIG_W +: X_SIG_W];
      assign w = weight_sig_i[(o*M_IN+i)*W_SIG_W +: W_SIG_W];
      always_ff @(posedge clk_i) if (en) product_q <= PRODUCT_W'(x) * PRODUCT_W'(w);
      if (HAS_SHIFT) begin : gen_shift
        logic [SHIFT_W-1:0] by_q;
        logic signed [ALIGNED_W-1:0] aligned_q;
        always_ff @(posedge clk_i) if (en) begin
          by_q <= SHIFT_W'(shift[i*X_SHIFT_W +: X_SHIFT_W])
                + SHIFT_W'(weight_shift_i[(o*M_IN+i)*W_SHIFT_W +: W_SHIFT_W]);
          aligned_q <= ALIGNED_W'(product_q) <<< by_q;
        end
        assign aligned[i*ALIGNED_W +: ALIGNED_W] = aligned_q;
      end else begin : gen_no_shift
        logic unused_shift;
        assign unused_shift = ^{shift[i*X_SHIFT_W +: X_SHIFT_W],
                                weight_shift_i[(o*M_IN+i)*W_SHIFT_W +: W_SHIFT_W]};
        assign aligned[i*ALIGNED_W +: ALIGNED_W] = ALIGNED_W'(product_q);
      end
    end

    // A tree of adders, each level one bit wider, with a register after every second level.
    for (genvar l = 0; l <= LEVELS; l++) begin : gen_level
      localparam int unsigned NODES = (M_IN + (1 << l) - 1) >> l;
      localparam int unsigned NODE_W = ALIGNED_W + l;
      logic [NODES*NODE_W-1:0] sum;
      if (l == 0) begin : gen_leaves
        assign sum = aligned;
      end else begin : gen_adders
        localparam int unsigned BELOW = (M_IN + (1 << (l - 1)) - 1) >> (l - 1);
        logic [NODES*NODE_W-1:0] added;
        for (genvar n = 0; n < NODES; n++) begin : gen_node
          logic signed [NODE_W-2:0] a, b;
          assign a = gen_level[l-1].sum[2*n*(NODE_W-1) +: NODE_W-1];
          if (2 * n + 1 < BELOW) begin : gen_pair
            assign b = gen_level[l-1].sum[(2*n+1)*(NODE_W-1) +: NODE_W-1];
          end else begin : gen_single
            assign b = '0;
          end
          assign added[n*NODE_W +: NODE_W] = NODE_W'(a) + NODE_W'(b);
        end
        if (l % 2 == 0 || l == LEVELS) begin : gen_register
          logic [NODES*NODE_W-1:0] sum_q;
          always_ff @(posedge clk_i) if (en) sum_q <= added;
          assign sum = sum_q;
        end else begin : gen_wire
          assign sum = added;
        end
      end
    end

    logic signed [TREE_W-1:0] tree_sum;
    assign tree_sum = gen_level[LEVELS].sum;
    if (HAS_SCALE) begin : gen_scale
      localparam int unsigned SCALED_W = TREE_W + SCALE_SIG_W;
      logic signed [SCALE_SIG_W-1:0] scale_sig;
      logic signed [SCALED_W-1:0] product;
      logic signed [ACC_W-1:0] scaled_q;
      logic [TOTAL_SHIFT_W-1:0] by;
      logic unused_product;  // bits that the accumulator's range rules out
      assign unused_product = ^product;
      assign scale_sig = scale_sig_i[o*SCALE_SIG_W +: SCALE_SIG_W];
      assign product   = SCALED_W'(tree_sum) * SCALED_W'(scale_sig);
      assign by        = TOTAL_SHIFT_W'(scale_at[AT_SUM-AT_OPERANDS])
                       + TOTAL_SHIFT_W'(scale_shift_i[o*SCALE_SHIFT_W +: SCALE_SHIFT_W]);
      always_ff @(posedge clk_i) if (en) scaled_q <= ACC_W'(product) <<< by;
      assign scaled[o*ACC_W +: ACC_W] = scaled_q;
    end else begin : gen_no_scale
      logic unused_scale;
      assign unused_scale = ^{scale_at[AT_SUM-AT_OPERANDS], scale_sig_i[o*SCALE_SIG_W +: SCALE_SIG_W],
                              scale_shift_i[o*SCALE_SHIFT_W +: SCALE_SHIFT_W]};
      logic unused_sum;  // bits that the accumulator's range rules out
      assign unused_sum = ^tree_sum;
      assign scaled[o*ACC_W +: ACC_W] = ACC_W'(tree_sum);
    end
  end

  // The scale of the row's beat and the address of the weights' wait for the sum.
  logic [X_SCALE_W-1:0] scale_at [AT_SUM-AT_OPERANDS+1];
  logic [SCALE_AW-1:0]  scale_addr_at [AT_SUM-ROM_LATENCY+1];
  assign scale_at[0]      = scale;
  assign scale_addr_at[0] = scale_q;
  for (genvar s = 1; s <= AT_SUM - AT_OPERANDS; s++) begin : gen_scale_wait
    logic [X_SCALE_W-1:0] scale_sq;
    logic [SCALE_AW-1:0]  addr_q;
    always_ff @(posedge clk_i) if (en) begin
      scale_sq <= scale_at[s-1];
      addr_q   <= scale_addr_at[s-1];
    end
    assign scale_at[s]      = scale_sq;
    assign scale_addr_at[s] = addr_q;
  end
  assign scale_addr_o = scale_addr_at[AT_SUM-ROM_LATENCY];

  // --------------------------------------------------------------------------------- accumulation
  logic [M_OUT*ACC_W-1:0] total, so_far;
  for (genvar o = 0; o < M_OUT; o++) begin : gen_total
    assign total[o*ACC_W +: ACC_W] =
        (first[AT_SCALED] ? bias_i[o*ACC_W +: ACC_W] : so_far[o*ACC_W +: ACC_W])
        + scaled[o*ACC_W +: ACC_W];
  end

  logic out_valid_q;
  logic [M_OUT*ACC_W-1:0] out_q;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) out_valid_q <= 1'b0;
    else if (en) out_valid_q <= valid[AT_SCALED] && last[AT_SCALED];
    if (en && valid[AT_SCALED]) out_q <= total;
  end
  assign out_valid_o = out_valid_q;
  assign out_data_o  = out_q;

  if (HELD == 1) begin : gen_one_sum
    assign so_far = out_q;
  end else begin : gen_sums
    logic [M_OUT*ACC_W-1:0] sums_q [HELD];
    assign so_far = sums_q[group_at[AT_SCALED]];
    always_ff @(posedge clk_i) begin
      if (en && valid[AT_SCALED]) sums_q[group_at[AT_SCALED]] <= total;
    end
  end
endmodule
